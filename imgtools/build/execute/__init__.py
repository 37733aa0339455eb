"""Carrying out a plan: contexts opened, stages run in threads, steps cached or executed."""
