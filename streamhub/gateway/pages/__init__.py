"""What browsers load from the hub: its client, one ES module and its TypeScript declarations."""
