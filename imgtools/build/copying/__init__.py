"""COPY and ADD: a layer's tar straight from the sources, without a mount or a process."""
