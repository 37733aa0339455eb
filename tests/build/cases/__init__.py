"""What builds have got wrong, case by case, each with tests of its number.

`catalogue.CASES` says what each number is about; `python -m tests.build.cases` prints every
case with the tests that hold it, wherever they are, or why there are none.
"""
