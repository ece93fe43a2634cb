"""What leaves the program: GLB, USD, the report page and the manifest."""
