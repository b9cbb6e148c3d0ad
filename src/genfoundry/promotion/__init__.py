"""Which registered version is champion: promote by the gate, roll back, and the card that tells why."""
