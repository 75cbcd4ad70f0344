"""Models under DDP, DeepSpeed and FSDP2: gathered and sharded weights, and batches filled up with repeated rows."""
