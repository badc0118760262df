__version__ = "0.1.0"


def load_ipython_extension(shell):
    "`%load_ext mlops_nb` in Jupyter: the commands of a stage"
    from .notebooks.magics import StageMagics
    shell.register_magics(StageMagics)
