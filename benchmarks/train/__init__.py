"""Training speed beside other trainers: the same rows, interleaved in one run, quality printed beside speed."""
