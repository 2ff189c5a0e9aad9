"""Side tables: what is known of an item or a user as of a day, joined to the rows of the log by a key."""
