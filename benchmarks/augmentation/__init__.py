"""How much drawn lips help a recogniser of filmed ones: the experiment's plan, its trainings and its figures."""
