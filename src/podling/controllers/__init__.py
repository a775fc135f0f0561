"""The minds of a cluster: one module for each controller, each `observe -> decide -> act`.

`decide` is a pure function from what was observed to actions with reasons; `runtime` runs the controllers and carries
the actions out. `catalogue.all_controllers()` names them all.
"""
