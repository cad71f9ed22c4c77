"""The graph: entities and facts as neighbours of each other, in the record itself or in Neo4j."""
