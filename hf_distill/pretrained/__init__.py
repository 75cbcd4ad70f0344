"""Loading of trained models from a folder or the Hub, as full models or PEFT adapters, with their tokenizers."""
