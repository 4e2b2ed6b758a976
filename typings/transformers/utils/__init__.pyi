# Whatever the name, no type: reading all of transformers takes longer than checking this project.
from typing import Any

def __getattr__(name: str) -> Any: ...
