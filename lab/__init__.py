"""The building around the subject: what a class needs and a transformer does not."""
