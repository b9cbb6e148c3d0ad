"""Whether one model may take another's place: paired evidence, counted looks, rules with numbers."""
