"""A simulated machine room: several processes, their disk, their clocks and their people, all in one thread."""
