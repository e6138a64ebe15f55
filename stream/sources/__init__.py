"""Where posts come from. Each source yields posts or says what is wrong with a line."""
