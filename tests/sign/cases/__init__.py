"""What verification could be talked into, case by case, each with tests of its number.

`catalogue.CASES` says what each number is about and how it has to end; `python -m
tests.sign.cases` prints every case with the tests that hold it, wherever they are.
"""
