"""The commands: a module per group, each with a table COMMANDS of syntaxes and functions."""
