"""Where signatures are kept: attachments, referrers, lookaside, the signatures API, dir:."""
