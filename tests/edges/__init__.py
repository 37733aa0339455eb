"""The edge cases of registries, references and local formats, each with tests of its number.

`catalogue.CASES` says what each number is about; `python -m tests.edges` prints every case
with the tests that hold it.
"""
