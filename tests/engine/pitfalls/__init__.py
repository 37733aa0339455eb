"""The security pitfalls of container engines, each with tests of its number.

`catalogue.CASES` says what each number is about; `python -m tests.engine.pitfalls` prints every
case with the tests that hold it, in this folder and in the one above, or why there are none.
"""
