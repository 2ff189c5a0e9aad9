"""Why a row has its score, in words of the log: coordinates of the wide part by value, the deep part by field."""
