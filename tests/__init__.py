"""The tests of imgtools; a package so that they can import their helpers as tests.rig."""
