"""An OpenAPI document becomes a job file, with a list of what the document does not say."""
