"""From a call to answers and certificates: plan, evaluation, certification."""
