"""Programs that show fengine at work: `python -m fengine.examples.NAME`."""
