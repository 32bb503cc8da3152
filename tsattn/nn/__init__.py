"""Networks of the library: attention layers, transformer blocks, patching and heads; torch only."""
