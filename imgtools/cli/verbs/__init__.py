"""One file per verb; each defines `command`, loaded when its verb is used."""
