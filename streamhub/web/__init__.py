"""What any route needs, whatever it serves: credentials, parameters, problems, connections."""
