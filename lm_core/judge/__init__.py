"""The judge: it runs a student's file in a process of its own, compares what comes back, and names the mistake.

    worker      the student's process: runs the file, knows no answers; stands alone, imports nothing of lm_core
    process     starts that process and gives it a limit
    exercise    what an exercise is: references, cases, mistakes
    files       the student's file and the solution, both written from the reference
    catalogue   all exercises, in the order of the lessons
    compare     two results: where do they first differ?
    calls       which calls a check makes, and what the references answer
    grading     from results to a verdict
    messages    a verdict in English or Chinese
    progress    attempts, and which hints they have opened
    check       one check from beginning to end

What the student's process says about itself is never believed. It receives inputs and returns values; whether those are
right is decided here, by comparing them with what the reference makes of the same inputs.
"""
