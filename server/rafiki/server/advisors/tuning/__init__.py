"""Studies of trials that each train one setting: how they run, and how points are chosen."""
