"""What a trial measures on its way: the landscape's constants (`probe`) and every layer (`watch`)."""
