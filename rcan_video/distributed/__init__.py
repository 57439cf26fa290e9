"""The segments of a job, computed on other machines: packets go out, encoded segments come back."""
