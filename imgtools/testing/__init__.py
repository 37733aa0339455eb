"""What tests need: a scriptable registry, random images, the transport contract suite."""
