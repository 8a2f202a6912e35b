//! Files that cost much before anything of them runs, and descriptors that are too large.
