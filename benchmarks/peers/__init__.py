"""Other systems that do the same, on the same machine: started, driven and measured beside Streamhub."""
