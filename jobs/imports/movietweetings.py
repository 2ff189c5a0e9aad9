"""MovieTweetings' two files to date-partitioned logs, with the label rating >= 8.

The published comparisons split the ratings by position in time (80 / 10 / 10 per cent). So that days can express that
split, the rows of a day that a split cuts in two count for the next day; their timestamps stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from nightjar.features.contract import storage
from nightjar.features.contract.errors import DataError
from nightjar.features.spark.tables import literal

SPLITS_FILE = "_splits.json"
SPLITS = {"train": 0.8, "validation": 0.9, "test": 1.0}
LIKED = 8


def read_ratings(spark: SparkSession, source: str) -> DataFrame:
    """ratings.dat joined with movies.dat: one row a rating, columns as the job writes them, and `line` (file order)."""
    line = F.split("value", "::")
    ratings = spark.read.text(literal(storage.join(source, "ratings.dat"))).select(
        line[0].alias("user_id"),
        line[1].alias("movie_id"),
        (line[2].cast("int") >= LIKED).cast("int").alias("liked"),
        line[3].cast("long").cast("timestamp").alias("timestamp"),
        F.monotonically_increasing_id().alias("line"),
    )
    year = F.try_to_number(F.regexp_extract(line[1], r"\((\d{4})\)$", 1), F.lit("9999")).cast("double")
    genres = F.filter(F.split(line[2], r"\|"), lambda genre: genre != "")
    movies = spark.read.text(literal(storage.join(source, "movies.dat"))).select(
        line[0].alias("movie_id"),
        year.alias("year"),
        (F.floor(year / 10) * 10).cast("int").alias("decade"),
        genres.alias("genres"),
        F.try_element_at(genres, F.lit(1)).alias("first_genre"),
    )
    return ratings.join(movies, on="movie_id", how="left")


def with_date_and_split(ratings: DataFrame) -> DataFrame:
    """Append `split` by position in time, and `date`, moved on by a day where a split cuts a day in two."""
    position = F.row_number().over(Window.orderBy("timestamp", "line")) - 1
    share = position / F.count("*").over(Window.partitionBy())
    split = F.lit("test")
    for name, end in reversed(list(SPLITS.items())[:-1]):
        split = F.when(share < end, name).otherwise(split)
    day = F.to_date("timestamp")
    first_split_of_day = F.first("split").over(Window.partitionBy(day).orderBy("timestamp", "line"))
    return (
        ratings.withColumn("split", split)
        .withColumn("date", F.when(F.col("split") == first_split_of_day, day).otherwise(F.date_add(day, 1)))
        .drop("line")
    )


def import_ratings(spark: Callable[[], SparkSession], source: str, output: str) -> str:
    """Write `<output>/date=*/*.parquet` and `<output>/_splits.json`: first and last date of each split; the splits.

    Args:
        spark: starts a session; not asked before the files are known to be there.
        source: the folder with ratings.dat and movies.dat.
        output: folder of the logs; must not exist yet.

    Raises DataError if a file is missing, or if `output` is there.
    """
    for name in ("ratings.dat", "movies.dat"):
        if not storage.exists(storage.join(source, name)):
            raise DataError(f"{source} has no {name}. Give the folder that MovieTweetings was unpacked to.")
    if storage.exists(output):
        raise DataError(f"{output} exists already. Remove it or give another --output.")
    rows = with_date_and_split(read_ratings(spark(), source)).persist()
    bounds = rows.groupBy("split").agg(F.min("date").cast("string"), F.max("date").cast("string")).collect()
    rows.drop("split").repartition("date").write.partitionBy("date").parquet(output)
    splits = {name: [first, last] for name, first, last in bounds}
    storage.write_bytes(storage.join(output, SPLITS_FILE), json.dumps(splits, indent=1).encode())
    return "\n".join(f"{name}: {splits[name][0]} to {splits[name][1]}" for name in SPLITS)
