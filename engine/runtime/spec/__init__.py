"""config.json of the runtime-spec as frozen data: `model` names it, `parse` reads it."""
