"""A document's journey: receive → inspect (judgement) → filing, review → dispose → destroy → certify.

`lifecycle` is the one table of states; `steps` names every durable write of the way. Each module decides from
facts and writes in one transaction; recovery after a crash runs the same code.
"""
