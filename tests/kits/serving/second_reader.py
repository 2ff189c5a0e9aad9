"""A second reader of artifacts, written from docs/artifact-format.md. Imports nothing of Nightjar, and no xxhash.

Row by row in plain Python: a page to port from, not to serve with.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq

MASK = 2**64 - 1
P1, P2, P3, P4, P5 = (
    0x9E3779B185EBCA87,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
)
MISSING = 42
Ids = dict[str, list[int]]


def _rotate(x: int, bits: int) -> int:
    return ((x << bits) | (x >> (64 - bits))) & MASK


def _round(lane: int, word: int) -> int:
    return _rotate((lane + word * P2) & MASK, 31) * P1 & MASK


def xxh64(data: bytes, seed: int) -> int:
    """XXH64 as its specification has it; signed."""
    seed &= MASK
    words = [int.from_bytes(data[n : n + 8], "little") for n in range(0, len(data) - 7, 8)]
    place, done = 0, len(words) // 4 * 4
    h = (seed + P5) & MASK
    if len(data) >= 32:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        for n in range(done):
            lanes[n % 4] = _round(lanes[n % 4], words[n])
        h = sum(_rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            h = ((h ^ _round(0, lane)) * P1 + P4) & MASK
        place = 8 * done
    h = (h + len(data)) & MASK
    while place + 8 <= len(data):
        h = (_rotate(h ^ _round(0, words[place // 8]), 27) * P1 + P4) & MASK
        place += 8
    if place + 4 <= len(data):
        h = (_rotate(h ^ (int.from_bytes(data[place : place + 4], "little") * P1 & MASK), 23) * P2 + P3) & MASK
        place += 4
    for byte in data[place:]:
        h = _rotate(h ^ (byte * P5 & MASK), 11) * P1 & MASK
    h = ((h ^ (h >> 33)) * P2) & MASK
    h = ((h ^ (h >> 29)) * P3) & MASK
    h ^= h >> 32
    return h - 2**64 if h >= 2**63 else h


def hash_of(value: Any) -> int:
    """Of a value of a log."""
    if value is None:
        return MISSING
    text = ("true" if value else "false") if isinstance(value, bool) else str(value)
    return xxh64(text.encode(), 42)


def conjunction(hashes: Iterable[int]) -> int:
    """Of several hashes, in their order."""
    seed = 42
    for g in hashes:
        seed = xxh64((g & MASK).to_bytes(8, "little"), seed)
    return seed


class Artifact:
    """An artifact, whose checksums are compared as it is opened."""

    def __init__(self, path: str) -> None:
        self.root = Path(path)
        self.manifest = self._checked(self.root)
        self.state = self._checked(self.root / "encoder")
        self.spec = self.state["spec"]
        self.fields = {field["name"]: field for field in self.spec["fields"]}
        self.vocabularies = {name: self._ids(f"vocabulary/{name}") for name in self.fields}
        self.crosses = {cross["name"]: self._ids(f"cross/{cross['name']}") for cross in self.spec["crosses"]}
        self.counts = {f["name"]: self._table(f"frequency/{f['name']}", "key") for f in self.spec["frequencies"]}
        self.head = onnxruntime.InferenceSession(
            (self.root / "scoring/head.onnx").read_bytes(), providers=["CPUExecutionProvider"]
        )
        self.inputs = [node.name for node in self.head.get_inputs()]
        self.wide: dict[int, float] = {}
        if "first_order" in self.inputs:
            ids, weights = (np.load(self.root / f"scoring/wide_{what}.npy") for what in ("ids", "weights"))
            if weights.dtype == np.uint16:
                weights = (weights.astype("<u4") << 16).view("<f4")
            self.wide = dict(zip(ids.tolist(), weights.tolist(), strict=True))
            bias = self.root / "scoring/wide_bias.npy"
            if bias.exists():
                self.wide[0] = float(np.load(bias)[0])
        self.columns = [c for c in self.manifest["columns"] if c["role"] in ("field", "cross", "dense")]
        calibration = self.root / "scoring/calibration.json"
        self.calibration = json.loads(calibration.read_text()) if calibration.exists() else None
        widths = sorted({c["embedding"] for c in self.columns if c["embedding"]}) if "embeddings" in self.inputs else []
        self.embeddings = {width: self._embeddings(f"scoring/embedding_{width}") for width in widths}

    def _embeddings(self, path: str) -> np.ndarray:
        stored = np.load(self.root / f"{path}.npy")
        if stored.dtype != np.int8:
            return stored.astype(np.float32)
        return stored.astype(np.float32) * np.load(self.root / f"{path}_scales.npy")[:, None]

    @staticmethod
    def _checked(directory: Path) -> dict[str, Any]:
        manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
        assert manifest["format"] in (2, 3)
        for entry in manifest["files"]:
            content = (directory / entry["path"]).read_bytes()
            assert (len(content), hashlib.sha256(content).hexdigest()) == (entry["bytes"], entry["sha256"]), entry
        return manifest

    def _table(self, folder: str, key: str) -> dict[int, dict[str, Any]]:
        files = sorted((self.root / "encoder" / folder).glob("*.parquet"))
        return {row[key]: row for file in files for row in pq.ParquetFile(file).read().to_pylist()}

    def _ids(self, folder: str) -> dict[int, int]:
        return {hash_: row["id"] for hash_, row in self._table(folder, "hash").items()}

    def scores(self, rows: Sequence[dict[str, Any]]) -> np.ndarray:
        """Probabilities of raw rows as logged: float64[rows]."""
        feed: dict[str, list[Any]] = {name: [] for name in self.inputs}
        every: list[Ids] = []
        for row in rows:
            ids, dense = self.encode(row)
            every.append(ids)
            made: dict[str, Callable[[], Any]] = {
                "first_order": lambda ids=ids, dense=dense: self._first_order(ids, dense),
                "embeddings": lambda ids=ids: self._embed(ids),
                "dense": lambda dense=dense: [dense[c["feature"]] for c in self.columns if c["role"] == "dense"],
            }
            for name, values in feed.items():
                values.append(made[name]())
        (logit,) = self.head.run(["logit"], {name: np.array(of, np.float32) for name, of in feed.items()})
        calibrated = [self._calibrated(float(z), ids) for z, ids in zip(logit, every, strict=True)]
        return 1.0 / (1.0 + np.exp(-np.array(calibrated)))

    def _calibrated(self, logit: float, ids: Ids) -> float:
        if self.calibration is None:
            return logit
        column, curves = self.calibration["column"], self.calibration["curves"]
        curve = curves.get(str(ids[column][0]), self.calibration["curve"]) if column else self.calibration["curve"]
        x, y = curve["x"], curve["y"]
        if logit < x[0] or logit >= x[-1]:
            end = 0 if logit < x[0] else -1
            return y[end] + curve["slope"] * (logit - x[end])
        n = max(i for i in range(len(x)) if x[i] <= logit)
        return y[n] + (logit - x[n]) * (y[n + 1] - y[n]) / (x[n + 1] - x[n])

    def encode(self, row: dict[str, Any]) -> tuple[Ids, dict[str, float]]:
        """Ids by column, ascending, and dense columns by name, rounded to float32."""
        hashes = {name: self._hashes(field, row.get(field["column"] or name)) for name, field in self.fields.items()}
        ids: Ids = {}
        for name, field in self.fields.items():
            known, spread = self.vocabularies[name], field["buckets"] or field["oov_buckets"]
            ids[f"f_{name}"] = sorted({_id(known, g, spread) for g in hashes[name]})
        for cross in self.spec["crosses"]:
            choices = product(*(hashes[name] for name in cross["fields"]))
            ids[f"x_{cross['name']}"] = sorted({self._cross_id(cross, conjunction(choice)) for choice in choices})
        dense: dict[str, float] = {}
        for feature in self.spec["dense"]:
            dense |= self._number(feature, row.get(feature["column"] or feature["name"]))
        for frequency in self.spec["frequencies"]:
            keys = {conjunction(choice) for choice in product(*(hashes[name] for name in frequency["keys"]))}
            dense |= self._frequency(frequency, keys, row)
        return ids, {name: float(np.float32(x)) for name, x in dense.items()}

    @staticmethod
    def _hashes(field: dict[str, Any], value: Any) -> list[int]:
        if field["multi_valued"]:
            return [hash_of(one) for one in value or () if one is not None]
        if field["boundaries"] and value is not None:
            if math.isnan(value):
                return [MISSING]
            ends = ["-inf", *(repr(float(b)) for b in field["boundaries"]), "inf"]
            place = sum(b <= value for b in field["boundaries"])
            return [hash_of(f"[{ends[place]}, {ends[place + 1]})")]
        return [hash_of(value)]

    def _cross_id(self, cross: dict[str, Any], g: int) -> int:
        known, admission, buckets = self.crosses[cross["name"]], cross["admission"], cross["buckets"]
        if cross["vocabulary"] == "exact":
            return _id(known, g, 1)
        if admission["by"] == "bloom":
            counters = admission["counters"]
            reached = {(h & MASK) >> (65 - counters.bit_length()) for h in known}
            low, high = g & (2**32 - 1), ((g & MASK) >> 32) | 1
            admitted = all((low + n * high) & (counters - 1) in reached for n in range(admission["hashes"]))
        else:
            admitted = admission["by"] == "all" or g in known
        return g & (buckets - 1) if admitted else buckets

    def _number(self, feature: dict[str, Any], value: Any) -> dict[str, float]:
        name = feature["name"]
        missing = value is None or math.isnan(value)
        columns = {name: feature["missing_value"] if missing else self._transformed(feature, float(value))}
        if feature["missing_indicator"]:
            columns[f"{name}_missing"] = float(missing)
        return columns

    def _transformed(self, feature: dict[str, Any], x: float) -> float:
        most = float(np.finfo(np.float32).max)
        if feature["transform"] == "quantile":
            boundaries = self.state["boundaries"][feature["name"]]
            return sum(b <= x for b in boundaries) / len(boundaries)
        if feature["transform"] == "standardise":
            mean, deviation = self.state["moments"][feature["name"]]
            x = (x - mean) / deviation if deviation else 0.0
        elif feature["transform"] == "log":
            x = math.copysign(math.log1p(abs(x)), x)
        return max(-most, min(most, x))

    def _frequency(self, frequency: dict[str, Any], keys: set[int], row: dict[str, Any]) -> dict[str, float]:
        name, table = frequency["name"], self.counts[frequency["name"]]
        rows = [table[key] for key in keys if key in table]
        columns: dict[str, float] = {}
        for window in frequency["windows"]:
            n, p = (sum(r[f"{what}_{window}"] for r in rows) for what in ("impressions", "positives"))
            if frequency["as_of"] == "impression":
                n += row.get(f"{name}_impressions_so_far") or 0
                p += row.get(f"{name}_positives_so_far") or 0
            prior, strength = frequency["prior"], frequency["strength"]
            rate = (p + prior * strength) / (n + strength)
            every = [r[f"impressions_{window}"] for r in table.values() if r[f"impressions_{window}"] > 0]
            most = max((r[f"impressions_{window}"] for r in rows), default=0)
            values = {
                "impressions": n,
                "positives": p,
                "rate": rate,
                "log_odds": math.log(rate / (1 - rate)) - math.log(prior / (1 - prior)),
                "log_count": math.log1p(n),
                "count_rank": sum(0 < other <= most for other in every) / max(len(every), 1),
            }
            columns |= {f"{name}_{window}_{s}": values[s] for s in frequency["statistics"] if s in values}
        if "days_since_first_seen" in frequency["statistics"]:
            served = (date.fromisoformat(self.state["through_date"]) - date(1970, 1, 1)).days + 1
            columns[f"{name}_days_since_first_seen"] = max((served - r["first"] for r in rows), default=0)
        return columns

    def _first_order(self, ids: Ids, dense: dict[str, float]) -> float:
        total, offset = self.wide.get(0, 0.0), 1
        for column in (c for c in self.columns if c["role"] != "dense" and c["wide"]):
            total += sum(self.wide.get(offset + i, 0.0) for i in ids[column["name"]])
            offset += column["size"]
        for column in (c for c in self.columns if c["role"] == "dense"):
            total += self.wide.get(offset, 0.0) * dense[column["feature"]]
            offset += 1
        return total

    def _embed(self, ids: Ids) -> np.ndarray:
        pooled = []
        for width, table in self.embeddings.items():
            offset = 0
            for column in (c for c in self.columns if c["embedding"] == width):
                mine = ids[column["name"]]
                total = table[[offset + i for i in mine]].sum(axis=0, dtype=np.float64)
                divisor = {"sum": 1.0, "mean": len(mine), "sqrtn": math.sqrt(len(mine))}[column["pooling"]]
                pooled.append(total / divisor if mine else np.zeros(width))
                offset += column["size"]
        return np.concatenate(pooled)


def _id(known: dict[int, int], g: int, spread: int) -> int:
    return 0 if g == MISSING else known.get(g, 1 + g % spread)
