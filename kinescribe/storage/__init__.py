"""URIs, shards and commits: every byte that Kinescribe reads or writes goes through here."""
