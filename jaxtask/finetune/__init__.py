"""Fine-tuning: from data folders to LoRA adapters in PEFT's format."""
