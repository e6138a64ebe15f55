"""The Faust agents. Thin: decode, call a pure function, send."""
