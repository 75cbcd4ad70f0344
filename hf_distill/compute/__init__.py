"""What a run costs: FLOPs by formula, budgets, and the speed of the machine."""
