"""The language model: hashed character n-grams, looked up and averaged by one small graph."""
