"""Drawing images: the stage, samplers, pipelines of each family, and models from elsewhere."""
