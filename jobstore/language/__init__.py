"""Values, rules and errors. Pure: nothing here touches a file."""
