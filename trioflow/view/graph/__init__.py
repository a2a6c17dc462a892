"""Pictures of a scheduler's graph, for Graphviz and Mermaid."""
