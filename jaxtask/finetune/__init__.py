"""LoRA fine-tuning of Llama, Mistral, RoBERTa and BERT, many tasks at once on one frozen base."""
