"""Streamlit widgets and panels that pages share."""
