"""Models under DDP, DeepSpeed and FSDP2: weights gathered or sharded, and batches padded by repeated rows."""
