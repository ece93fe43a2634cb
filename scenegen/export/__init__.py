"""The outputs of scenegen: GLB, USD, the report page and the manifest."""
