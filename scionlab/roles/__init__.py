"""What a parameter is: its role, layout, norm and radius, by module, name, rule and preset."""
