"""What a model adds to a version after its text is searchable: entities, facts, links between entities."""
